"""What autoencoders are used for besides denoising. Modules in reading order:

- `autoencoder`: `Codec` loads a model that encodes features and reconstructs them, and streams
  files through it
- `container`: the .aae file: a header and packets with checksums
- `coder`: MDCT coefficients and a latent as whole numbers, and the range coder for them
- `compress`: compresses files and decompresses them
- `fit_coder`: fits the tables of the coder to an autoencoder
- `generate`: new sounds from a variational autoencoder
"""

from audioae.tasks.autoencoder import Codec

__all__ = ["Codec"]
