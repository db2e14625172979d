"""The building blocks of a contract, which validates rows and gives them their numeric form.

It is pure, because everything it needs is an argument, and imports only ``errors``.
"""

from .columns import Column
from .contract import Contract

__all__ = ["Column", "Contract"]
