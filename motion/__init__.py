"""The bundled model `motion`: its clips, its training, its weights."""
