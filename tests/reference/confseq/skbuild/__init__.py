"""Stands in for scikit-build while pip makes the package `confseq`: its Python parts without its C++ extension, which no
compiler of today accepts (it asks for pybind11 2.6) and which the tests do not need."""

import setuptools


def setup(cmake_install_dir=None, install_requires=None, **arguments):
    setuptools.setup(**arguments)
