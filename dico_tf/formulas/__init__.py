"""Formulas written once for numpy and keras.ops: averages, confidences and learning rates."""
