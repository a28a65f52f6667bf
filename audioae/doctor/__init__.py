"""What of audioae works on this machine, one row a thing, with the command that mends what does not.

`probing` imports the packages in a process of its own, so that a broken one takes nothing down. This module stands without any of them.
"""

from audioae.doctor.findings import EXTRAS, MENDS, Finding, examine

__all__ = ["EXTRAS", "MENDS", "Finding", "examine"]
