"""Operations with several implementations: the reference, and faster ones that equal it."""
