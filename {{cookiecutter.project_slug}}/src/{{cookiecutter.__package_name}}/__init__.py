"""{{ cookiecutter.__project_name_toml }}

{{ cookiecutter.__description_toml | wordwrap(95, break_long_words=False) }}

Contact: {{ cookiecutter.__author_name_toml }} <{{ cookiecutter.author_email }}>
"""
