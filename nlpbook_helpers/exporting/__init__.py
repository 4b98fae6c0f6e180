"""How does it leave? As a Hugging Face folder with a model card, and as an ONNX graph in 8 bits or 32."""
