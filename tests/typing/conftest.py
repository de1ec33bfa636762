collect_ignore = ["mistakes.py", "uses_public_names.py"]  # scripts for pyright to read; pytest would import them
