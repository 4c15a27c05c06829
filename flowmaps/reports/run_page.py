"""The page of a run: its samples, their quality and cost, the way from noise to data, training, configuration."""

from __future__ import annotations

import json

import torch

from ..figures import words
from . import gallery, guidance, likelihood, page, points, sections, sound, steering, tables, texts, way
from .downloads import document, uri


@torch.no_grad()
def run_page(material: sections.Material) -> str:
    """Draw the page of a run.

    Args:
        material: The flow map, the data and the records of the run.

    Returns:
        The HTML text.
    """
    evaluation, data, config = material.evaluation, material.data, material.config
    found, drawn = evaluation.get("guidance"), sections.drawn(material, gallery.size(material))
    return page.render(
        "run.html.j2",
        data=data,
        method=config["method"]["name"],
        evaluation=evaluation,
        explored=material.explored,
        headline=words.headline(evaluation, data.kind),
        explanation=words.explanation(evaluation),
        samples=sections.samples(material, drawn),
        gallery=gallery.section(material, drawn),
        points=points.sections(material),
        texts=texts.samples(material),
        sound=sound.section(material),
        curves=texts.curves(evaluation, data.kind),
        quality=tables.quality(evaluation),
        evaluation_file=uri(document(evaluation), "application/json"),
        errors=tables.errors(evaluation),
        others=tables.others(evaluation),
        guidance=found and guidance.section(material.samplers, data, found, material.usual_scale),
        steering=material.steered and steering.section(*material.steered),
        likelihood=material.likelihood and likelihood.section(material.likelihood),
        way=way.section(material),
        consistency=sections.consistency(material),
        training=tables.training(material.metrics),
        configuration=tables.configuration(config, material.flow, data),
        config_json=json.dumps(config, indent=2),
    )
