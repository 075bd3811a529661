"""SAEs of a local folder in the Llama Scope layout, by SAELens' own loader."""

import json
from pathlib import Path
from unittest import mock

import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders as loaders

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(root: Path, layer: int, dtype: str) -> SAE:
    """
    What `SAE.from_pretrained("llama_scope_lxr_8x", ...)` does, without the hub and its registry: the same loader reads the
    local files, and the norm of the activations is folded into the weights as there.
    """
    (folder,) = root.glob(f"*-L{layer}R-*x")

    def local(repo_id: str, filename: str, subfolder: str = "", force_download: bool = False) -> str:
        return str(root / subfolder / filename)

    with mock.patch.object(loaders, "hf_hub_download", local):
        cfg, state, _ = loaders.llama_scope_sae_huggingface_loader(
            "local", folder.name, device="cpu", cfg_overrides={"dtype": dtype, "device": "cpu"}
        )
    sae = SAE.from_dict(loaders.handle_config_defaulting(cfg))
    sae.load_state_dict({name: tensor.clone().contiguous() for name, tensor in state.items()})
    hyperparams = json.loads((folder / "hyperparams.json").read_text())
    norm = hyperparams["dataset_average_activation_norm"]["in"]
    sae.fold_activation_norm_scaling_factor(hyperparams["d_model"] ** 0.5 / norm)
    return sae.to(DTYPES[dtype]).eval()
