"""Public corpora as published: names, addresses, licences, sizes, checksums, and the files that
must be in their folders.

Data only; `layouts` reads the folders and `collect` combines both. Checksums are those that the
publisher or a widely used library documents; elsewhere `unchecked` says why there is none, and the
size is verified.
"""

from __future__ import annotations

from types import MappingProxyType

from audioae.data.corpora import layouts
from audioae.data.corpora.records import Archive, Part, PublicCorpus


def _parts(**parts: Part) -> MappingProxyType[str, Part]:
    return MappingProxyType({name.replace("_", "-"): part for name, part in parts.items()})


_NO_RECORD = (
    "the publisher's checksum could not be confirmed; the size that the server states and the "
    "archive's own checks count"
)
_SLR = "https://www.openslr.org/resources"
_DATASHARE = "https://datashare.ed.ac.uk/bitstream/handle/10283"
_DNS = "https://dns4public.blob.core.windows.net/dns4archive/datasets_fullband"


def _librispeech(part: str, size: int, sha256: str) -> Part:
    return Part(
        (f"{part}/*/*/*.flac",),
        (Archive(f"{_SLR}/12/{part}.tar.gz", size, f"sha256:{sha256}", inside="LibriSpeech"),),
    )


def _voicebank(name: str, size: int, md5: str, *, exact: bool = True) -> Archive:
    return Archive(f"{_DATASHARE}/2791/{name}.zip", size, f"md5:{md5}", exact)


def _demand(name: str, size: int = 0, md5: str = "") -> Archive:
    url = f"https://zenodo.org/records/1227121/files/{name}_48k.zip?download=1"
    return (
        Archive(url, size, f"md5:{md5}")
        if md5
        else Archive(url, 330_000_000, exact=False, unchecked=_NO_RECORD)
    )


def _dns(name: str, size: int, *, exact: bool = False) -> Archive:
    return Archive(
        f"{_DNS}/{name}.tar.bz2", size, exact=exact, unchecked="the publisher gives no checksum"
    )


CORPORA = {
    "voicebank-demand": PublicCorpus(
        title="VoiceBank+DEMAND, 28 speakers",
        homepage="https://doi.org/10.7488/ds/2117",
        licence="CC BY 4.0",
        contents="9.4 h of noisy/clean pairs at 48 kHz; clean is speech, noisy - clean is noise; "
        "p232 and p257 are the test split",
        folders=("VoiceBank-DEMAND",),
        read=layouts.read_voicebank_demand,
        parts=_parts(
            train=Part(
                ("clean_trainset_28spk_wav*/*.wav", "noisy_trainset_28spk_wav*/*.wav"),
                (
                    _voicebank(
                        "clean_trainset_28spk_wav",
                        2_486_057_279,
                        "d2d5a45ec32f8fcbf201bde0447e20ba",
                    ),
                    _voicebank(
                        "noisy_trainset_28spk_wav",
                        2_830_205_201,
                        "1fca9e8bafb8cd069f6653c6d92f9e9c",
                    ),
                ),
            ),
            test=Part(
                ("clean_testset_wav*/*.wav", "noisy_testset_wav*/*.wav"),
                (
                    _voicebank(
                        "clean_testset_wav",
                        154_300_000,
                        "34eb1c0ba7ef667e9b966866c542fc16",
                        exact=False,
                    ),
                    _voicebank(
                        "noisy_testset_wav",
                        170_600_000,
                        "fb1b86caa31e8ba5b506c0c64da9aab5",
                        exact=False,
                    ),
                ),
            ),
        ),
        default=("train", "test"),
    ),
    "librispeech": PublicCorpus(
        title="LibriSpeech",
        homepage="https://www.openslr.org/12",
        licence="CC BY 4.0",
        contents="up to 982 h of read English at 16 kHz; dev-* is the valid split, test-* the "
        "test split",
        folders=("LibriSpeech",),
        read=layouts.read_librispeech,
        parts=_parts(
            train_clean_100=_librispeech(
                "train-clean-100",
                6_387_309_499,
                "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
            ),
            train_clean_360=_librispeech(
                "train-clean-360",
                23_049_477_885,
                "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
            ),
            train_other_500=_librispeech(
                "train-other-500",
                30_593_501_606,
                "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
            ),
            dev_clean=_librispeech(
                "dev-clean",
                337_926_286,
                "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
            ),
            dev_other=_librispeech(
                "dev-other",
                314_305_928,
                "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
            ),
            test_clean=_librispeech(
                "test-clean",
                346_663_984,
                "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
            ),
            test_other=_librispeech(
                "test-other",
                328_757_843,
                "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
            ),
        ),
        default=("train-clean-100", "dev-clean"),
        present=True,
    ),
    "ljspeech": PublicCorpus(
        title="LJ Speech 1.1",
        homepage="https://keithito.com/LJ-Speech-Dataset/",
        licence="public domain",
        contents="24 h of one English reader at 22.05 kHz; held out by chapter, so validation is "
        "of a known voice",
        folders=("LJSpeech-1.1",),
        read=layouts.read_ljspeech,
        parts=_parts(
            all=Part(
                ("metadata.csv", "wavs/*.wav"),
                (
                    Archive(
                        "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
                        2_748_572_632,
                        "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
                        inside="LJSpeech-1.1",
                    ),
                ),
            )
        ),
    ),
    "vctk": PublicCorpus(
        title="VCTK 0.92",
        homepage="https://doi.org/10.7488/ds/2645",
        licence="CC BY 4.0",
        contents="41 h of 110 English speakers at 48 kHz; p232 and p257, the test speakers of "
        "VoiceBank+DEMAND, are the test split",
        folders=("VCTK-Corpus-0.92",),
        read=layouts.read_vctk,
        parts=_parts(
            all=Part(
                ("wav48_silence_trimmed/*/*.flac",),
                (
                    Archive(
                        f"{_DATASHARE}/3443/VCTK-Corpus-0.92.zip",
                        11_747_302_977,
                        "sha256:f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
                    ),
                ),
            )
        ),
    ),
    "common-voice": PublicCorpus(
        title="Mozilla Common Voice",
        homepage="https://commonvoice.mozilla.org/datasets",
        licence="CC0 1.0",
        contents="spoken sentences in many languages, MP3; a part is a language, speakers are "
        "those of its tables",
        folders=("cv-corpus-*", "common-voice", "CommonVoice"),
        read=layouts.read_common_voice,
        parts=_parts(all=Part(("**/clips",))),
        free=True,
        manual="its terms have to be accepted in a browser; unpack the archive of a language "
        "below --root",
    ),
    "musan": PublicCorpus(
        title="MUSAN",
        homepage="https://www.openslr.org/17",
        licence="CC BY 4.0 and public domain, see its LICENSE files",
        contents="6 h of noise, and 42 h of music as noise and 60 h of speech where they are "
        "asked for, at 16 kHz",
        folders=("musan",),
        read=layouts.read_musan,
        parts=MappingProxyType(
            {
                name: Part(
                    (f"{name}/*/*.wav",),
                    (
                        Archive(
                            f"{_SLR}/17/musan.tar.gz",
                            11_086_114_085,
                            "md5:0c472d4fc0c5141eca47ad1ffeb2a7df",
                            inside="musan",
                        ),
                    ),
                )
                for name in ("noise", "music", "speech")
            }
        ),
        default=("noise",),
    ),
    "esc50": PublicCorpus(
        title="ESC-50",
        homepage="https://github.com/karolpiczak/ESC-50",
        licence="CC BY-NC 3.0 (no commercial use)",
        contents="2,000 clips of 5 s in 50 classes at 44.1 kHz; fold 5 is the valid split",
        folders=("ESC-50-master", "ESC-50"),
        read=layouts.read_esc50,
        parts=_parts(
            all=Part(
                ("meta/esc50.csv", "audio/*.wav"),
                (
                    Archive(
                        "https://github.com/karolpiczak/ESC-50/archive/master.zip",
                        600_000_000,
                        exact=False,
                        unchecked="the archive is made anew from the repository on demand, its "
                        "bytes may change",
                        inside="ESC-50-master",
                    ),
                ),
            )
        ),
    ),
    "demand": PublicCorpus(
        title="DEMAND",
        homepage="https://doi.org/10.5281/zenodo.1227121",
        licence="CC BY-SA 3.0",
        contents="18 places, 5 min each at 48 kHz, the first of 16 channels; the places of "
        "VoiceBank+DEMAND's test set are the test split",
        folders=("DEMAND", "demand"),
        read=layouts.read_demand,
        parts=_parts(
            all=Part(
                tuple(f"{place}*/**/ch01.wav" for place in layouts.DEMAND_PLACES),
                (
                    _demand("DKITCHEN", 336_992_458, "b4d38241fbd50d8a17f8742ca6870c10"),
                    _demand("DWASHING", 306_101_499, "ecf765f12b8d3ada7ef0ec664b8f8d73"),
                    _demand("OHALLWAY", 252_905_617, "cb9227a75d2c1342de0b6548da4bbb1b"),
                    _demand("OOFFICE", 277_643_831, "6f87edf8a6b03f17b3f693af1754aab4"),
                    _demand("TCAR", 373_520_251, "8550f03e8356d8054ae845e8b4b6c773"),
                    _demand("TMETRO", 367_513_573, "00d895020233f94348aafce7140d671f"),
                    *(
                        _demand(place)
                        for place in layouts.DEMAND_PLACES
                        if place
                        not in ("DKITCHEN", "DWASHING", "OHALLWAY", "OOFFICE", "TCAR", "TMETRO")
                    ),
                ),
            )
        ),
    ),
    "dns-challenge": PublicCorpus(
        title="DNS-Challenge",
        homepage="https://github.com/microsoft/DNS-Challenge",
        licence="CC BY 4.0 in the main, see the repository for each source",
        contents="speech, noise and room responses of the challenges 1 to 5, in the folders of "
        "their scripts",
        folders=("DNS-Challenge",),
        read=layouts.read_dns,
        parts=_parts(
            speech=Part(layouts.DNS_FOLDERS["speech"]),
            noise=Part(
                layouts.DNS_FOLDERS["noise"],
                (
                    _dns(
                        "noise_fullband/datasets_fullband.noise_fullband.audioset_000",
                        5_364_611_964,
                        exact=True,
                    ),
                    _dns(
                        "noise_fullband/datasets_fullband.noise_fullband.audioset_001",
                        5_357_916_291,
                        exact=True,
                    ),
                    *(
                        _dns(
                            f"noise_fullband/datasets_fullband.noise_fullband.audioset_00{n}",
                            5_360_000_000,
                        )
                        for n in range(2, 7)
                    ),
                    *(
                        _dns(
                            f"noise_fullband/datasets_fullband.noise_fullband.freesound_00{n}",
                            3_470_000_000,
                        )
                        for n in range(2)
                    ),
                ),
            ),
            rir=Part(
                layouts.DNS_FOLDERS["rir"],
                (_dns("datasets_fullband.impulse_responses_000", 264_900_000),),
            ),
        ),
        default=("noise", "rir"),
        present=True,
        manual="its speech is 850 GB; choose the archives in the repository's download script "
        "and unpack them below --root",
    ),
    "slr28": PublicCorpus(
        title="Room impulse responses and noises, SLR28",
        homepage="https://www.openslr.org/28",
        licence="Apache-2.0",
        contents="60,000 simulated and some hundred measured room responses at 16 kHz, and point "
        "noises of MUSAN where they are asked for",
        folders=("RIRS_NOISES",),
        read=layouts.read_slr28,
        parts=MappingProxyType(
            {
                name: Part(
                    needs,
                    (
                        Archive(
                            f"{_SLR}/28/rirs_noises.zip",
                            1_311_166_223,
                            "md5:e6f48e257286e05de56413b4779d8ffb",
                            inside="RIRS_NOISES",
                        ),
                    ),
                )
                for name, needs in {
                    "measured": ("real_rirs_isotropic_noises/rir_list",),
                    "simulated": ("simulated_rirs/*/rir_list",),
                    "noise": ("pointsource_noises/*.wav",),
                }.items()
            }
        ),
        default=("measured", "simulated"),
    ),
}
