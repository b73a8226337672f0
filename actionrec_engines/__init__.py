"""Engines beside TorchServe, each over `actionrec.service.Service`: in process, Ray Serve, KServe, Ray Data."""
