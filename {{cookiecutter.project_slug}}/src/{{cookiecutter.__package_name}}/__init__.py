"""From a trained model to predictions in production."""
