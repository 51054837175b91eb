from services.core.models.customnet import CustomNet
from services.core.models.factory import ARCHITECTURES, create_model
from services.core.models.pretrained import Weights

__all__ = ["ARCHITECTURES", "CustomNet", "Weights", "create_model"]
