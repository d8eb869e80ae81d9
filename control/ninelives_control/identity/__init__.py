"""Who a caller is: by token, JSON Web Token, certificate, or user of this machine."""
