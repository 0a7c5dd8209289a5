"""What every room needs: geometry, pixels, interpolation, blur kernels, files, URLs, signals and resources."""
