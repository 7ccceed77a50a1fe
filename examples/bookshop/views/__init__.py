"""One module per blueprint; each mistake stands directly above its fix."""
