"""What the notebooks use of Colab's own package, where there is no Colab."""
