"""Service level objectives, and the rules of Prometheus that follow from them.

It uses the settings, and of the API only names of routes and edges of the histogram.
"""
