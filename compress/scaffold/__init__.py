"""Write a first recipe for the user's own images: detect, survey, choose, write."""
