"""What can be seen: modalities, their findings, and the words that doctors use for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from meddistill.data.phantom.config import Modality

Side = Literal["left", "right", ""]
SIDES: tuple[Side, ...] = ("left", "right")
SIZE_WORDS = ("small", "moderate", "large")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to see. `label` is the natural phrase that tables carry; `names` are its synonyms.

    `where` is a phrase with the slots `{side}` and `{place}`, filled from `sides` and `places`. `size_mm` is
    the range of the lesion's extent in millimetres; `grades` describe it in rising order of malignancy. A
    normal finding has no structure, no size and no hazard. With `graded_by_size` the grade follows the size
    (mild to severe), else the two are independent. `log_hazard` is added to the log of the hazard of death of
    every patient who has the finding.
    """

    label: str
    names: tuple[str, ...]
    structure: str = ""
    where: str = ""
    sides: tuple[Side, ...] = ()
    places: tuple[str, ...] = ()
    size_mm: tuple[float, float] = (0.0, 0.0)
    grades: tuple[str, str, str] = ("", "", "")
    graded_by_size: bool = False
    log_hazard: float = 0.0

    @property
    def normal(self) -> bool:
        """Whether there is nothing to find."""
        return not self.structure


@dataclass(frozen=True, kw_only=True)
class ModalityWords:
    """The words of one modality. `label` is the class name of the modality task; `names` its synonyms."""

    label: str
    names: tuple[str, ...]
    anatomy: str
    findings: tuple[Finding, Finding, Finding]


_XRAY = ModalityWords(
    label="chest X-ray",
    names=("chest X-ray", "chest radiograph", "frontal chest radiograph", "plain film of the chest"),
    anatomy="chest",
    findings=(
        Finding(label="normal lungs", names=("normal lungs", "clear lungs", "no acute chest abnormality")),
        Finding(
            label="lung nodule",
            names=("lung nodule", "pulmonary nodule", "nodular lung opacity"),
            structure="lung nodule",
            where="in the {side} {place} lung zone",
            sides=SIDES,
            places=("upper", "middle", "lower"),
            size_mm=(14.0, 48.0),
            grades=("smooth", "lobulated", "spiculated"),
            log_hazard=0.6,
        ),
        Finding(
            label="pleural effusion",
            names=("pleural effusion", "pleural fluid", "effusion with a blunted costophrenic angle"),
            structure="pleural effusion",
            where="on the {side}",
            sides=SIDES,
            size_mm=(25.0, 120.0),
            grades=("simple", "layering", "complex"),
            log_hazard=0.4,
        ),
    ),
)

_CT = ModalityWords(
    label="abdominal CT",
    names=(
        "abdominal CT",
        "axial CT of the abdomen",
        "computed tomography of the abdomen",
        "contrast CT slice",
    ),
    anatomy="abdomen",
    findings=(
        Finding(label="normal abdomen", names=("normal abdomen", "unremarkable abdomen", "normal organs")),
        Finding(
            label="liver metastasis",
            names=("liver metastasis", "hepatic metastasis", "hypodense liver lesion"),
            structure="liver metastasis",
            where="in the {place} segment of the liver",
            places=("anterior", "posterior"),
            size_mm=(18.0, 60.0),
            grades=("well-defined", "ill-defined", "infiltrating"),
            log_hazard=0.9,
        ),
        Finding(
            label="renal cyst",
            names=("renal cyst", "kidney cyst", "cystic lesion of the kidney"),
            structure="renal cyst",
            where="in the {side} kidney",
            sides=SIDES,
            size_mm=(18.0, 50.0),
            grades=("simple", "septated", "complex"),
            log_hazard=0.1,
        ),
    ),
)

_MRI = ModalityWords(
    label="brain MRI",
    names=("brain MRI", "axial MRI of the head", "magnetic resonance image of the brain", "cranial MR slice"),
    anatomy="brain",
    findings=(
        Finding(label="normal brain", names=("normal brain", "unremarkable brain", "no intracranial lesion")),
        Finding(
            label="glioma",
            names=("glioma", "glial brain tumour", "intra-axial tumour"),
            structure="glioma",
            where="in the {side} {place} lobe",
            sides=SIDES,
            places=("frontal", "parietal"),
            size_mm=(18.0, 56.0),
            grades=("low-grade", "intermediate-grade", "high-grade"),
            log_hazard=1.0,
        ),
        Finding(
            label="cortical infarct",
            names=("cortical infarct", "ischaemic stroke", "territorial infarction"),
            structure="cortical infarct",
            where="of the {side} {place} lobe",
            sides=SIDES,
            places=("frontal", "parietal"),
            size_mm=(22.0, 70.0),
            grades=("faint", "established", "swollen"),
            log_hazard=0.6,
        ),
    ),
)

_ULTRASOUND = ModalityWords(
    label="abdominal ultrasound",
    names=(
        "abdominal ultrasound",
        "ultrasound of the liver and gallbladder",
        "sonogram",
        "B-mode sonography",
    ),
    anatomy="liver and gallbladder",
    findings=(
        Finding(
            label="normal gallbladder",
            names=("normal gallbladder", "clear gallbladder", "no gallbladder disease"),
        ),
        Finding(
            label="gallstone",
            names=("gallstone", "gallbladder stone", "biliary calculus"),
            structure="gallstone",
            where="at the {place} of the gallbladder",
            places=("neck", "fundus"),
            size_mm=(8.0, 26.0),
            grades=("smooth", "faceted", "irregular"),
            log_hazard=0.1,
        ),
        Finding(
            label="liver mass",
            names=("liver mass", "hepatic mass", "echogenic liver tumour"),
            structure="liver mass",
            where="in the {place} liver",
            places=("superficial", "deep"),
            size_mm=(16.0, 50.0),
            grades=("well-defined", "lobulated", "ill-defined"),
            log_hazard=0.8,
        ),
    ),
)

_FUNDUS = ModalityWords(
    label="fundus photograph",
    names=(
        "fundus photograph",
        "colour photograph of the retina",
        "retinal fundus image",
        "fundoscopy image",
    ),
    anatomy="retina",
    findings=(
        Finding(label="normal fundus", names=("normal fundus", "healthy fundus", "fundus without lesions")),
        Finding(
            label="diabetic retinopathy",
            names=("diabetic retinopathy", "retinopathy with haemorrhages", "diabetic eye disease"),
            structure="retinal haemorrhage",
            where="in the {side} eye",
            sides=SIDES,
            size_mm=(0.4, 2.4),
            grades=("mild", "moderate", "severe"),
            graded_by_size=True,
            log_hazard=0.4,
        ),
        Finding(
            label="glaucoma",
            names=("glaucoma", "glaucomatous cupping", "enlarged optic cup"),
            structure="optic cup",
            where="in the {side} eye",
            sides=SIDES,
            size_mm=(1.0, 1.6),
            grades=("early", "moderate", "advanced"),
            graded_by_size=True,
            log_hazard=0.1,
        ),
    ),
)

_OCT = ModalityWords(
    label="retinal OCT",
    names=("retinal OCT", "optical coherence tomography of the macula", "macular OCT B-scan", "OCT scan"),
    anatomy="macula",
    findings=(
        Finding(label="normal macula", names=("normal macula", "regular retinal layers", "healthy macula")),
        Finding(
            label="macular oedema",
            names=("macular oedema", "cystoid macular edema", "intraretinal fluid"),
            structure="intraretinal fluid",
            where="{place} the fovea",
            places=("beneath", "beside"),
            size_mm=(0.2, 0.9),
            grades=("mild", "moderate", "severe"),
            graded_by_size=True,
            log_hazard=0.2,
        ),
        Finding(
            label="drusen",
            names=("drusen", "drusenoid deposits", "drusen of macular degeneration"),
            structure="drusen",
            where="{place} the fovea",
            places=("beneath", "beside"),
            size_mm=(0.1, 0.4),
            grades=("soft", "confluent", "calcified"),
            log_hazard=0.2,
        ),
    ),
)

_DERMATOLOGY = ModalityWords(
    label="skin photograph",
    names=("skin photograph", "dermatology photograph", "dermoscopic image", "close-up of the skin"),
    anatomy="skin",
    findings=(
        Finding(label="normal skin", names=("normal skin", "healthy skin", "skin without a lesion")),
        Finding(
            label="benign naevus",
            names=("benign naevus", "benign mole", "melanocytic nevus"),
            structure="naevus",
            where="in the {place} part of the picture",
            places=("central", "upper", "lower"),
            size_mm=(3.0, 9.0),
            grades=("flat", "slightly raised", "raised"),
            log_hazard=0.0,
        ),
        Finding(
            label="melanoma",
            names=("melanoma", "malignant melanoma", "melanoma with an irregular border"),
            structure="melanoma",
            where="in the {place} part of the picture",
            places=("central", "upper", "lower"),
            size_mm=(4.0, 12.0),
            grades=("thin", "intermediate", "thick"),
            log_hazard=1.0,
        ),
    ),
)

_HISTOLOGY = ModalityWords(
    label="histology slide",
    names=("histology slide", "H&E histopathology image", "haematoxylin and eosin section", "colon biopsy"),
    anatomy="colon biopsy",
    findings=(
        Finding(label="normal mucosa", names=("normal mucosa", "regular glands", "benign colonic mucosa")),
        Finding(
            label="colitis",
            names=("colitis", "mucosal inflammation", "inflammatory infiltrate"),
            structure="lymphocytic infiltrate",
            where="in the {place} of the field",
            places=("upper half", "lower half", "left half", "right half"),
            size_mm=(0.1, 0.35),
            grades=("mild", "moderate", "severe"),
            graded_by_size=True,
            log_hazard=0.2,
        ),
        Finding(
            label="adenocarcinoma",
            names=("adenocarcinoma", "colorectal carcinoma", "malignant glandular tumour"),
            structure="adenocarcinoma",
            where="in the {place} of the field",
            places=("upper half", "lower half", "left half", "right half"),
            size_mm=(0.15, 0.5),
            grades=("well differentiated", "moderately differentiated", "poorly differentiated"),
            log_hazard=1.0,
        ),
    ),
)

_ENDOSCOPY = ModalityWords(
    label="colonoscopy image",
    names=(
        "colonoscopy image",
        "endoscopy image",
        "endoscopic view of the colon",
        "still from a colonoscopy",
    ),
    anatomy="colon",
    findings=(
        Finding(label="normal colon", names=("normal colon", "healthy colonic mucosa", "unremarkable colon")),
        Finding(
            label="polyp",
            names=("polyp", "colonic polyp", "polypoid lesion"),
            structure="polyp",
            where="on the {side} wall",
            sides=SIDES,
            size_mm=(5.0, 22.0),
            grades=("smooth", "lobulated", "irregular"),
            log_hazard=0.5,
        ),
        Finding(
            label="ulcer",
            names=("ulcer", "mucosal ulcer", "mucosal ulceration"),
            structure="ulcer",
            where="on the {side} wall",
            sides=SIDES,
            size_mm=(5.0, 22.0),
            grades=("superficial", "excavated", "deep"),
            log_hazard=0.3,
        ),
    ),
)

WORDS: Mapping[Modality, ModalityWords] = {
    "xray": _XRAY,
    "ct": _CT,
    "mri": _MRI,
    "ultrasound": _ULTRASOUND,
    "fundus": _FUNDUS,
    "oct": _OCT,
    "dermatology": _DERMATOLOGY,
    "histology": _HISTOLOGY,
    "endoscopy": _ENDOSCOPY,
}
