"""What a run takes from the sections before and after one: its brightness, and what lies behind its damage."""
