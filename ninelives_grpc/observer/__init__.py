"""What is known of the calls that ended: counted per stack and method, over sliding windows."""
