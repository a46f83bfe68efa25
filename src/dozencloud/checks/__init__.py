"""What is the matter, with a machine, a cloud or a server?"""
