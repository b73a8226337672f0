"""How networks learn here: one loop, for the bundled model's own training and for fine-tuning.

loop: steps, and ends of parts at which a run is measured and kept
optimise: AdamW's groups, and a learning rate that warms up and falls
records: what a run says of itself, as CSV and for TensorBoard
whole: files that are written whole or not at all

It knows no model, no video and no other part of the project.
"""
