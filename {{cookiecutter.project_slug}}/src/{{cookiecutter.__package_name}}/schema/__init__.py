"""What a contract is made of: it validates rows and gives them their numeric form.

It is pure: whatever it needs comes as an argument, and of the project it uses ``errors`` alone.
"""

from .columns import Column
from .contract import Contract

__all__ = ["Column", "Contract"]
