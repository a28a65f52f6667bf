"""What autoencoders are used for besides denoising. Modules in reading order:

- `autoencoder`: `Codec` loads a model that encodes features and reconstructs them, and streams
  files through it
- `container`: the .aae file: a header and packets with checksums
- `coder`: MDCT coefficients and a latent as whole numbers, and the range coder for them
- `compress`: compresses files and decompresses them
- `fit_coder`: fits the tables of the coder to an autoencoder
- `workers`: applies a function to many files in processes
- `embed`, `embedding_file`: latents per step or pooled over files, and their files
- `baselines`, `probe`: PCA, Mahalanobis distance and neighbours; a linear classifier of embeddings
- `anomaly`, `detector_file`, `fit_anomaly`: detectors of unusual sound, their files and training
- `scoring`: scores of files, and how well they separate labelled recordings
- `faults`: sounds of machines with and without faults
- `pictures`: maps of embeddings, and where in time and frequency an anomaly is
- `generate`: new sounds from a variational autoencoder
- `pca`: an autoencoder beside PCA of the same code size
"""

from audioae.tasks.autoencoder import Codec

__all__ = ["Codec"]
