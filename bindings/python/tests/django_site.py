"""Settings, a model, views: the site that the tests of the engine use, and gunicorn serves.

As the original's users have it: nothing but its keys. The token service stands in the environment, as in all tests.
"""

import os

from django.http import HttpResponse
from django.urls import path

SECRET_KEY = "a secret of no use"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
USE_TZ = True
ROOT_URLCONF = __name__

ORIGINAL = "django_database_postgresql_aad_backend"


def database(**more):
    here = {"ENGINE": "pgaad.django", "NAME": "postgres", "USER": "app-one", "HOST": "localhost"}
    return {**here, "PORT": os.environ["PGPORT"], **more}


DATABASES = {
    "default": database(
        ENGINE=os.environ.get("ENGINE", ORIGINAL),
        AAD_OPTIONS={
            "`SP_CLIENT_ID`": os.environ["PGAAD_CLIENT_ID"],
            "`SP_CLIENT_SECRET`": os.environ["SITE_SECRET"],
            "SP_TENANT_ID": os.environ["PGAAD_TENANT_ID"],
            "REFRESH_BEFORE_MINUTES": 5,
        },
        CONN_MAX_AGE=int(os.environ.get("SITE_MAX_AGE", 0)),
        CONN_HEALTH_CHECKS=True,
        OPTIONS={"pool": {"min_size": 0, "max_size": 4, "max_lifetime": 5}} if os.environ.get("SITE_POOL") else {},
    )
}


def who(request):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("select current_user, (select ssl from pg_stat_ssl where pid = pg_backend_pid())")
        return HttpResponse("%s %s" % cursor.fetchone())


async def who_async(request):
    from asgiref.sync import sync_to_async
    from django.contrib.contenttypes.models import ContentType

    count = await ContentType.objects.acount()
    return HttpResponse(f"{count} {(await sync_to_async(who)(request)).content.decode()}")


urlpatterns = [path("", who), path("async", who_async)]
