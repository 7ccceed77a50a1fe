"""What is hooked into: the SQLAlchemy engine and ORM, Flask's WSGI entry, ASGI. Only here does the host call us."""
