"""Charges that AWS Marketplace bills: what it was told, what it took, and so what is left for the invoice.

Source: AWS Marketplace Metering Service API reference. Pure but for `store` (database) and `sender` (AWS).
"""
