"""The local stack: the real template on this machine, without Docker and without AWS.

API Gateway, Lambda and DynamoDB come from an emulator (MiniStack). For development only: it checks
no signature of its root account, and every caller can reset it. So it listens on the loopback
interface only.
"""
