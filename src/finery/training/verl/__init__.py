"""The engine `verl`: real, unmodified verl 0.9.1 on Ray. Nothing here is imported outside the verl interpreter but the
pure parts: `translating`, `checking`, `template`."""
