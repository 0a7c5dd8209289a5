// Restore every section that a pattern names, each as a task of its own:
//
//     nextflow run examples/nextflow --input 'sections/*.ome.tif' --outdir restored
//     nextflow run examples/nextflow --input 'sections/*.ome.tif' --outdir restored -profile docker --args '--scale 2'
//
// examples/docker/Dockerfile makes the image; without a container bigrestore must be on the PATH.
nextflow.enable.dsl = 2

include { BIGRESTORE } from './modules/bigrestore/main'

workflow {
    if (!params.input) {
        error("--input is missing; give a file, a store or a quoted pattern of them.")
    }
    sections = Channel
        .fromPath(params.input, type: 'any', checkIfExists: true)
        .map { section -> [[id: section.name.replaceAll(/(\.ome)?\.\w+$/, '')], section] }
    BIGRESTORE(sections)
}
