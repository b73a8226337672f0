"""The bundled model `motion`: its clips, its training and its weights."""
