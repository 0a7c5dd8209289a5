// Restore one section or volume, and check what was written.
//
// A task that was stopped is tried again by Nextflow in a folder of its own, from the beginning; give a task the time that
// `bigrestore run --dry-run` estimates.
process BIGRESTORE {
    tag "${meta.id}"
    label 'process_high'
    container "${params.bigrestore_container ?: 'bigrestore'}"

    input:
    tuple val(meta), path(section)

    output:
    tuple val(meta), path("${meta.id}.restored.ome.zarr"), emit: restored
    tuple val(meta), path("${meta.id}.restored.ome.zarr.bigrestore/report"), emit: report, optional: true
    path 'versions.yml', emit: versions

    script:
    def args = task.ext.args ?: ''
    """
    bigrestore --log-format json run '${section}' '${meta.id}.restored.ome.zarr' --threads '${task.cpus}' ${args}
    bigrestore verify '${meta.id}.restored.ome.zarr'

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        bigrestore: \$(bigrestore --version | cut -d ' ' -f 2)
    END_VERSIONS
    """

    stub:
    """
    mkdir -p '${meta.id}.restored.ome.zarr' '${meta.id}.restored.ome.zarr.bigrestore/report'
    touch versions.yml
    """
}
