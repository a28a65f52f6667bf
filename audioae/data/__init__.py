"""Training data: public corpora, prepared recordings, and the noisy/clean pairs that are mixed from them."""
