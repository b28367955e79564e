//! What launchers say of the processes that they start, in variables of the environment.

use faults::{Fault, Place};

/// Who has started the processes. In the order in which they are asked: what is nearer to this program counts more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// `RANK`, `WORLD_SIZE`, `LOCAL_RANK`: torchrun, accelerate, and whoever sets them by hand.
    Torch,
    /// `OMPI_COMM_WORLD_RANK`: `mpirun` of Open MPI.
    OpenMpi,
    /// `PMI_RANK`: `mpirun` of MPICH, Intel MPI and their kin.
    Pmi,
    /// `SLURM_PROCID`: `srun`.
    Slurm,
    /// `JOB_COMPLETION_INDEX`: an indexed job of Kubernetes.
    Kubernetes,
}

/// Where a launcher writes what.
struct Variables {
    launcher: Launcher,
    rank: &'static str,
    size: &'static str,
    local_rank: Option<&'static str>,
}

/// `srun` alone sets the number of tasks of a step: a batch script by itself has a `SLURM_PROCID`, too, and is one process.
/// An indexed job does not know how many there are, and may be one whose pods have nothing to do with each other: the
/// manifest says that they belong together by `WORLD_SIZE`.
const VARIABLES: [Variables; 5] = [
    Variables { launcher: Launcher::Torch, rank: "RANK", size: "WORLD_SIZE", local_rank: Some("LOCAL_RANK") },
    Variables {
        launcher: Launcher::OpenMpi,
        rank: "OMPI_COMM_WORLD_RANK",
        size: "OMPI_COMM_WORLD_SIZE",
        local_rank: Some("OMPI_COMM_WORLD_LOCAL_RANK"),
    },
    Variables { launcher: Launcher::Pmi, rank: "PMI_RANK", size: "PMI_SIZE", local_rank: Some("MPI_LOCALRANKID") },
    Variables {
        launcher: Launcher::Slurm,
        rank: "SLURM_PROCID",
        size: "SLURM_STEP_NUM_TASKS",
        local_rank: Some("SLURM_LOCALID"),
    },
    Variables { launcher: Launcher::Kubernetes, rank: "JOB_COMPLETION_INDEX", size: "WORLD_SIZE", local_rank: None },
];

/// What the environment says of this process and its fellows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Who says so.
    pub by: Launcher,
    /// The number of this process, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Its number among those of its machine; not every launcher says it.
    pub local_rank: Option<usize>,
}

impl Launcher {
    /// Who it is, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Torch => "torchrun or its like (`RANK`, `WORLD_SIZE`)",
            Self::OpenMpi | Self::Pmi => "`mpirun`",
            Self::Slurm => "`srun`",
            Self::Kubernetes => "an indexed job of Kubernetes",
        }
    }

    /// The variable that it says the number of processes in.
    pub fn variable(self) -> &'static str {
        self.variables().size
    }

    fn variables(self) -> &'static Variables {
        VARIABLES.iter().find(|variables| variables.launcher == self).expect("every launcher has its line")
    }
}

impl Launch {
    /// What this process's own environment says; `None` where it says nothing of other processes.
    ///
    /// # Errors
    /// As [`Launch::of`].
    pub fn of_environment() -> Result<Option<Self>, Fault> {
        Self::of(&|name| std::env::var(name).ok())
    }

    /// What an environment says, whose variables `read` gives.
    ///
    /// # Errors
    /// Something that is no number, or a rank that is none of so many processes.
    pub fn of(read: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, Fault> {
        for Variables { launcher, rank: rank_name, size: size_name, local_rank } in &VARIABLES {
            let number = |name: &'static str| read(name).map(|text| parsed(name, &text)).transpose();
            // Those of other launchers may still say it.
            let (Some(rank), Some(size)) = (number(rank_name)?, number(size_name)?) else { continue };
            if rank >= size {
                let message = format!("`{rank_name}` is {rank}, and by `{size_name}` the processes are 0 to {size}");
                return Err(Fault::new(message)
                    .at(Place::Named((*rank_name).into()))
                    .hint("they count from 0: unset both, or set them as the launcher does"));
            }
            let local_rank = local_rank.map(number).transpose()?.flatten();
            return Ok(Some(Self { by: *launcher, rank, size, local_rank }));
        }
        Ok(None)
    }
}

fn parsed(name: &str, text: &str) -> Result<usize, Fault> {
    text.trim().parse().map_err(|_| {
        Fault::new(format!("`{name}` is no number of processes: `{text}`"))
            .at(Place::Named(name.into()))
            .hint("a launcher sets it: unset it, or start the program through the launcher")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Launch>, Fault> {
        Launch::of(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn found(by: Launcher, rank: usize, size: usize, local_rank: Option<usize>) -> Result<Option<Launch>, Fault> {
        Ok(Some(Launch { by, rank, size, local_rank }))
    }

    #[test]
    fn each_launcher_is_understood_by_its_own_variables() {
        let torch =
            [("RANK", "3"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "1")];
        assert_eq!(of(&torch), found(Launcher::Torch, 3, 8, Some(1)));
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
            ("PMIX_RANK", "1"),
        ];
        assert_eq!(of(&open_mpi), found(Launcher::OpenMpi, 1, 2, Some(0)));
        assert_eq!(
            of(&[("PMI_RANK", "2"), ("PMI_SIZE", "4"), ("MPI_LOCALRANKID", "2")]),
            found(Launcher::Pmi, 2, 4, Some(2))
        );
        assert_eq!(of(&[("PMI_RANK", "2"), ("PMI_SIZE", "4")]), found(Launcher::Pmi, 2, 4, None));
        let slurm =
            [("SLURM_PROCID", "5"), ("SLURM_STEP_NUM_TASKS", "6"), ("SLURM_LOCALID", "1"), ("SLURM_NTASKS", "6")];
        assert_eq!(of(&slurm), found(Launcher::Slurm, 5, 6, Some(1)));
        assert_eq!(of(&[("JOB_COMPLETION_INDEX", "1"), ("WORLD_SIZE", "2")]), found(Launcher::Kubernetes, 1, 2, None));
    }

    #[test]
    fn what_is_nearer_to_the_program_counts_more() {
        let mut all = vec![("JOB_COMPLETION_INDEX", "0"), ("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "5")];
        assert_eq!(of(&all), found(Launcher::Slurm, 1, 5, None));
        all.extend([("PMI_RANK", "2"), ("PMI_SIZE", "5")]);
        assert_eq!(of(&all), found(Launcher::Pmi, 2, 5, None));
        all.extend([("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "5")]);
        assert_eq!(of(&all), found(Launcher::OpenMpi, 3, 5, None));
        all.extend([("RANK", "4"), ("WORLD_SIZE", "5")]);
        assert_eq!(of(&all), found(Launcher::Torch, 4, 5, None));
    }

    #[test]
    fn a_process_by_itself_is_one() {
        assert_eq!(of(&[]), Ok(None));
        // A batch script by itself, and a pod of a job whose pods have nothing to do with each other.
        assert_eq!(of(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4"), ("SLURM_LOCALID", "0")]), Ok(None));
        assert_eq!(of(&[("JOB_COMPLETION_INDEX", "3")]), Ok(None));
        // Clusters of notebooks set one of the two.
        assert_eq!(of(&[("WORLD_SIZE", "2")]), Ok(None));
    }

    #[test]
    fn an_environment_that_contradicts_itself_is_refused_by_name() {
        let fault = of(&[("RANK", "2"), ("WORLD_SIZE", "2")]).expect_err("there is no third").to_string();
        assert!(fault.contains("`RANK` is 2") && fault.contains("hint"), "{fault}");
        let fault = of(&[("RANK", "first"), ("WORLD_SIZE", "2")]).expect_err("no number").to_string();
        assert!(fault.contains("`RANK`") && fault.contains("first"), "{fault}");
    }
}
