"""Keras files without Keras or TensorFlow: our own layer list over h5py."""
