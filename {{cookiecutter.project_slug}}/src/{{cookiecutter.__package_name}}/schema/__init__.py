"""The building blocks of a contract, which validates rows and gives them their numeric form.

This package is pure: everything it needs is an argument. It imports only ``errors``.
"""

from .columns import Column
from .contract import Contract

__all__ = ["Column", "Contract"]
