"""Training data, from corpora and recordings to noisy/clean pairs. In reading order:

- `corpora`: public corpora by name: facts, downloads, folder layouts
- `sources`: the files to prepare, with speaker or noise source, split and licence
- `prepare`: decodes, checks and stores them at one sample rate
- `manifest`: the rows that describe prepared files, and access to their samples
- `material`: prepares recordings for a training, completed by data prepared before
- `augment`: the effects that vary a mixture
- `mixtures`: draws and renders mixtures
"""
