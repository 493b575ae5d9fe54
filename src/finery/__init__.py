"""Finery: an LLM post-training platform. Raw data in; a chosen, evaluated, exported model out."""
