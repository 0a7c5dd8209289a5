"""Networks of other projects: files read without running code, architectures by spandrel, any network by ONNX."""
