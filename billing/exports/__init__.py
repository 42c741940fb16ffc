"""Issued documents and sealed usage in the shapes of others: FOCUS, AWS Marketplace, Stripe."""
