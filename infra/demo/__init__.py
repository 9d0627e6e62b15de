"""`telltale demo`: a month of a real mast through the whole way, checked by counting."""
