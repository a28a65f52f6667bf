"""What autoencoders are used for besides denoising. Modules in reading order:

- `autoencoder`: `Codec` loads a model that encodes features and reconstructs them, and streams
  files through it
"""

from audioae.tasks.autoencoder import Codec

__all__ = ["Codec"]
