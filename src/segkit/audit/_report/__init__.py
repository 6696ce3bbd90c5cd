"""The findings as a person reads them."""
