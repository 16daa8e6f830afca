import os

DATABASES = {
    "default": {
        "ENGINE": "django_database_postgresql_aad_backend",  # or "pgaad.django": they are the same
        "NAME": "app",
        "USER": "app-one",
        "HOST": "myserver.postgres.database.azure.com",
        "AAD_OPTIONS": {
            "SP_CLIENT_ID": "aaaaaaaa-0000-0000-0000-000000000001",
            "SP_CLIENT_SECRET": os.environ["SP_CLIENT_SECRET"],
            "SP_TENANT_ID": "11111111-2222-3333-4444-555555555555",
            "REFRESH_BEFORE_MINUTES": 5,
        },
    },
}
