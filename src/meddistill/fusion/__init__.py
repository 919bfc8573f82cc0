"""Networks over the stored outputs of several teachers, and the teachers that are derived by them."""
