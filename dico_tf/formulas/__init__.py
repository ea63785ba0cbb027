"""Formulas written once for numpy and keras.ops: averages, confidences, learning rates and softmax."""
