from django.urls import path

from warehouse.views import receive

urlpatterns = [path("orders", receive)]
