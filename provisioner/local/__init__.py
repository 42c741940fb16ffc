"""The local provider: real Milvus servers as processes of this machine, and the exporter beside them."""
