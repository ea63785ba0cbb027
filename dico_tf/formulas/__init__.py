"""Formulas written once for numpy and keras.ops: averages of members and confidences of answers."""
