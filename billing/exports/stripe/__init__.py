"""Final invoices to Stripe, to be collected there. Source: docs.stripe.com/api, invoices and invoice items."""

from billing.exports.stripe.client import StripeClient
from billing.exports.stripe.handover import hand_over
from billing.exports.stripe.items import Item, items_of

__all__ = ["Item", "StripeClient", "hand_over", "items_of"]
