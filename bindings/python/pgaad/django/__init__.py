"""A database engine for Django: PostgreSQL, signed in to with Microsoft Entra ID.

    DATABASES = {
        "default": {
            "ENGINE": "pgaad.django",
            "NAME": "app",
            "USER": "app",
            "HOST": "myserver.postgres.database.azure.com",
            "AAD_OPTIONS": {"auth": "managed_identity"},
        }
    }

It is Django's own engine in everything but the password of new connections. ``AAD_OPTIONS`` holds settings of pgaad's
by their names, or the original backend's ``SP_CLIENT_ID``, ``SP_CLIENT_SECRET``, ``SP_TENANT_ID`` (all three) and
``REFRESH_BEFORE_MINUTES``. What it leaves out comes from the environment; ``{}`` is the environment alone. Without
``AAD_OPTIONS``, the engine is Django's, with ordinary passwords.
"""
