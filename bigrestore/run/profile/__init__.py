"""The profile of a section: background, blur and noise, in numbers, words and a picture."""
